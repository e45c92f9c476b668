// Moves the line between an image before and after to where its slider is.
for (const slider of document.querySelectorAll(".pair input")) {
  const show = () => slider.parentElement.style.setProperty("--at", `${slider.value}%`);
  slider.addEventListener("input", show);
  show(); // a browser keeps a slider's place when the page is loaded again
}
