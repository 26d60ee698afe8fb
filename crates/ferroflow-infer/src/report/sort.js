// Tables of class `sortable`: a click on a heading sorts by its column, another one the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    heading.classList.add("sorts");
    button.addEventListener("click", () => {
      const down = heading.ariaSort === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column]?.textContent.trim() ?? "";
      // What is no number, such as a dash, comes last either way.
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        const [p, q] = [parseFloat(x), parseFloat(y)];
        if (isNaN(p) && isNaN(q)) return (down ? -1 : 1) * x.localeCompare(y, undefined, { numeric: true });
        if (isNaN(p) || isNaN(q)) return isNaN(p) ? 1 : -1;
        return down ? q - p : p - q;
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(order));
    });
  });
}
