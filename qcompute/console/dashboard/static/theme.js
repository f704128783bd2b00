// Runs before the page is drawn, so that a chosen theme does not flash into place.
"use strict";
try {
  const chosen = localStorage.getItem("qcompute-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch (error) {
  // A browser that keeps nothing follows the system's theme.
}
