"""Files on disks and in S3, and locks on them."""

from imagewizard.storage.files import absolute as absolute
from imagewizard.storage.files import check_address as check_address
from imagewizard.storage.files import check_utf8 as check_utf8
from imagewizard.storage.files import delete_files as delete_files
from imagewizard.storage.files import join as join
from imagewizard.storage.files import local_path as local_path
from imagewizard.storage.files import open_file as open_file
from imagewizard.storage.files import read_bytes as read_bytes
from imagewizard.storage.files import read_range as read_range
from imagewizard.storage.files import resolve as resolve
from imagewizard.storage.files import size as size
from imagewizard.storage.folder import Folder as Folder
from imagewizard.storage.local import NOT_UTF8 as NOT_UTF8
from imagewizard.storage.local import expanded as expanded
from imagewizard.storage.refusal import RefusedError as RefusedError
from imagewizard.storage.stores import of as of
