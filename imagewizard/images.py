import io
import numpy as np
from PIL import Image
class ImageError(Exception): pass
def is_image_name(name): return name.lower().endswith((".png",".jpg",".jpeg",".webp",".bmp",".gif",".tif",".tiff"))
def decode(data, max_pixels):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
