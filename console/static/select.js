// One box that selects all boxes of a table; without scripts there is none.
const head = document.getElementById("all");
const boxes = document.querySelectorAll("td.box input");
if (head && boxes.length) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.setAttribute("aria-label", "Select all on this page");
  box.addEventListener("change", () => boxes.forEach((one) => { one.checked = box.checked; }));
  boxes.forEach((one) => one.addEventListener("change", () => {
    box.checked = [...boxes].every((other) => other.checked);
  }));
  head.replaceChildren(box);
}
