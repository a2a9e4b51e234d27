// The rest: colours, downloads, and the start.

for (const radio of document.querySelectorAll('input[name="theme"]')) {
  const choose = () => {
    if (radio.checked) root.dataset.theme = radio.value;
  };
  radio.addEventListener("change", choose);
  // Some browsers remember the choice when a page is loaded again.
  choose();
}

// The embedded text itself is a run file.
for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => {
    const text = document.getElementById(button.dataset.download).textContent;
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    make("a", { href: address, download: button.dataset.file }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
}

startMarks();
startTable();
startFilters();
root.classList.add("js");
