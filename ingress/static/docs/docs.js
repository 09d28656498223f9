"use strict";

// Swagger UI's own switch sits in its top bar, which this page does not show; so the page follows
// the system's light or dark mode.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const followMode = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
followMode();
dark.addEventListener("change", followMode);

// A problem's `type` is a link to /docs#problem-<code, with dashes>; Swagger UI's own deep links
// put a slash before it.
function showProblem() {
  const wanted = location.hash.match(/^#\/?problem-([a-z-]+)$/);
  if (!wanted) return true;
  const code = wanted[1].replaceAll("-", "_");
  const cells = [...document.querySelectorAll(".info details code")];
  const row = cells.find((cell) => cell.textContent === code)?.closest("tr");
  if (!row) return false;
  row.closest("details").open = true;
  row.classList.add("wanted");
  row.scrollIntoView({ block: "center" });
  return true;
}
window.addEventListener("hashchange", showProblem);

// Swagger UI draws the table some time after it says that it is complete.
const drawing = new MutationObserver(() => {
  if (showProblem()) drawing.disconnect();
});
drawing.observe(document.querySelector("#api"), { childList: true, subtree: true });

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  defaultModelExpandDepth: 2,
  persistAuthorization: true,
  tryItOutEnabled: false,
  // The default would send the document to an outside host.
  validatorUrl: null,
});
