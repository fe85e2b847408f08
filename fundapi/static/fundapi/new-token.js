// The page that shows a new bearer token once: copies it. A reload leaves the page, and does not post again.

const page = document.getElementById("new-token");
const token = document.getElementById("token");
const button = page.querySelector("button");

history.replaceState(null, "", page.dataset.leaveTo);

button.addEventListener("click", async () => {
  const label = button.querySelector("span");
  try {
    await navigator.clipboard.writeText(token.textContent);
    label.textContent = "Copied";
  } catch {
    // Browsers give the clipboard to https and localhost only.
    getSelection().selectAllChildren(token);
    label.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
  }
});
