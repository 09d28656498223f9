// A button that prints; without scripts the browser's own does.
const place = document.getElementById("print");
if (place) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Print";
  button.addEventListener("click", () => print());
  place.prepend(button);
}
