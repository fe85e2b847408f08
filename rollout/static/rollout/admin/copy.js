// Buttons that copy the text of a field: <button data-copy="id of the field">. Without scripts the field can be selected.

for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!(button instanceof HTMLButtonElement)) continue;
  const label = button.textContent ?? "";
  button.hidden = false;
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copy ?? "");
    if (!(field instanceof HTMLTextAreaElement)) return;
    const details = field.closest("details");
    if (details) details.open = true;
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent = "Copied";
    } catch {
      // No permission, or no secure context: the text is selected.
      button.textContent = "Selected: press Ctrl+C or ⌘C";
    }
    setTimeout(() => {
      button.textContent = label;
    }, 4000); // ms; long enough to be read and announced
  });
}
