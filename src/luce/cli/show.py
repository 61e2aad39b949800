"""Results as text that reads well in 80 columns; each function lays out a part of what --json prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from luce.cli.console import printable

if TYPE_CHECKING:
    from rich.console import Console

MOST_COLUMNS = 24  # that are listed one by one
MOST_CLASSES = 20  # in the table of classes
WIDEST_MATRIX = 12  # classes of a confusion matrix that is printed whole
SHORTEST = 6  # characters of a class name above a column
MOST_CONFUSIONS = 10
NAME = 24  # characters of a class or column name
BAR = 20  # characters of a full bar

Values = dict[str, Any]


def fit(console: Console, result: Values) -> None:
    """Print the result of `luce fit`."""
    data, model = result["data"], result["model"]
    console.print(
        Text.assemble(
            (printable(data["name"]), "bold"), f": {data['rows']:,} rows, {len(data['classes']):,} classes"
        )
    )
    console.print()
    columns(console, result["columns"])
    if result["held_out"]:
        console.print()
        evaluation(console, result["held_out"], f"Held out: {result['held_out']['how']}")
    console.print()
    heading(console, "Fit")
    console.print(f"  objective  {model['loss']:.6g}, at most {model['gap']:.2g} above the optimum (proven)")
    if model["status"] == "finished":
        console.print("             gradient descent ended after its epochs, without aiming at the tolerance")
    elif not model["converged"]:
        console.print(f"             above the tolerance: not converged ({model['status']})", style="yellow")
    console.print(
        f"  effort     {model['passes']:,.0f} passes over {model['rows']:,} rows, {seconds(model['seconds'])}"
        f", C = {model['C']:g}"
    )
    if result["saved"]:
        console.print()
        console.print(
            Text.assemble(
                "Saved ", (printable(result["saved"]), "bold"), f", fitted on {model['rows']:,} rows."
            )
        )
        if result["held_out"] and result["held_out"]["split"]:
            console.print(
                "--test-size 0 fits on all of them; this model is the one measured above.", style="dim"
            )


def evaluation(console: Console, values: Values, title: str) -> None:
    """Print measures, classes and confusions."""
    majority = values["majority"]
    heading(console, title)
    grid = Table.grid(padding=(0, 3))
    grid.add_column()
    grid.add_column(justify="right", style="bold")
    grid.add_column(justify="right", style="dim")
    grid.add_row("", "luce", "majority class")
    grid.add_row("  accuracy", f"{values['accuracy']:.2%}", f"{majority['accuracy']:.2%}")
    grid.add_row("  log-loss", _number(values["log_loss"]), _number(majority["log_loss"]))
    grid.add_row("  macro-F1", _number(values["macro_f1"]), _number(majority["macro_f1"]))
    console.print(grid)
    if values["unknown_labels"]:
        console.print(
            f"  {values['unknown_labels']:,} rows have labels that the model does not know:\n"
            "  they are wrong in the accuracy and left out of the rest",
            style="yellow",
        )
    _classes(console, values["classes"])
    _confusion(console, [str(c["class"]) for c in values["classes"]], values["confusion"])


def check(console: Console, result: Values) -> None:
    """Print the ladder of losses against numerical gradients."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("relative errors")
    table.add_column("loss", justify="right")
    table.add_column("gradient", justify="right")
    table.add_column("")
    case = None
    for row in result["rows"]:
        if row["case"] != case:
            case = row["case"]
            table.add_row(Text(case, "cyan"))
        verdict = Text("ok", "green") if row["ok"] else Text("WRONG", "bold red")
        table.add_row("  " + row["name"], f"{row['loss_error']:.1e}", f"{row['gradient_error']:.1e}", verdict)
    console.print(table)
    console.print("The loss is held against the loops, the gradient against differences.", style="dim")


def seconds(value: float) -> str:
    """Return a duration as people say it.

    Examples
    --------
    >>> seconds(0.234), seconds(75)
    ('0.23 s', '1 min 15 s')
    """
    if value < 60:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def heading(console: Console, title: str) -> None:
    """Print the title of a part."""
    console.print(Text(printable(title), "bold cyan"))


def columns(console: Console, columns: list[Values]) -> None:
    """Print what was done to each column."""
    heading(console, "Columns")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(style="cyan")
    grid.add_column()
    for column in columns[:MOST_COLUMNS]:
        style = "dim" if column["kind"] == "dropped" else ""
        grid.add_row("  " + _short(column["name"]), column["kind"], printable(column["done"]), style=style)
    console.print(grid)
    if len(columns) > MOST_COLUMNS:
        console.print(f"  and {len(columns) - MOST_COLUMNS:,} more; --json lists them all", style="dim")


def _classes(console: Console, classes: list[Values]) -> None:
    shown = classes
    if len(classes) > MOST_CLASSES:
        shown = sorted((c for c in classes if c["rows"]), key=lambda c: c["f1"])[:MOST_CLASSES]
    console.print()
    full, rest, _ = _marks(console)
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("  class", no_wrap=True)
    for name in ("precision", "recall", "F1"):
        table.add_column(name, justify="right")
    table.add_column("", no_wrap=True)
    table.add_column("rows", justify="right")
    for c in shown:
        table.add_row(
            "  " + _short(c["class"]),
            f"{c['precision']:.3f}",
            f"{c['recall']:.3f}",
            f"{c['f1']:.3f}",
            Text(full * round(BAR * c["f1"]) + rest * (BAR - round(BAR * c["f1"])), "green"),
            f"{c['rows']:,}",
        )
    console.print(table)
    if len(shown) < len(classes):
        console.print(
            f"  the {len(shown)} classes with the lowest F1 of {len(classes):,}; --json has all", style="dim"
        )


def _confusion(console: Console, names: list[str], confusion: list[list[int]]) -> None:
    margin = 2 + max(len(_short(n)) for n in names)
    widest = max(len(f"{n:,}") for row in confusion for n in row)
    fits = (console.width - margin) // len(names) - 2  # characters of a cell
    console.print()
    if len(names) <= WIDEST_MATRIX and fits >= max(widest, min(SHORTEST, max(map(len, names)))):
        *_, nothing = _marks(console)
        width = max(widest, min(fits, max(len(_short(n)) for n in names)))
        console.print("  true class (row) and predicted class (column)", style="dim")
        header = "".join(f"  {_short(n, width):>{width}}" for n in names)
        console.print(Text(" " * margin + header, "dim"))
        for i, (name, row) in enumerate(zip(names, confusion, strict=True)):
            line = Text(f"  {_short(name):<{margin - 2}}")
            for j, count in enumerate(row):
                cell = f"{count:,}" if count else nothing
                line.append(f"  {cell:>{width}}", "bold green" if i == j else "red" if count else "dim")
            console.print(line, no_wrap=True)
        return
    wrong = sorted(
        ((n, i, j) for i, row in enumerate(confusion) for j, n in enumerate(row) if n and i != j),
        reverse=True,
    )
    console.print("  the most frequent confusions" if wrong else "  no row is misclassified", style="dim")
    for count, i, j in wrong[:MOST_CONFUSIONS]:
        console.print(Text(f"  {count:>7,} x  {_short(names[i])} taken for {_short(names[j])}"))
    if len(wrong) > MOST_CONFUSIONS:
        console.print(f"  and {len(wrong) - MOST_CONFUSIONS:,} other pairs; --json has all", style="dim")


def _marks(console: Console) -> tuple[str, str, str]:
    """The signs for a bar, for the rest of it, and for zero."""
    return ("█", "░", "·") if console.encoding.startswith("utf") else ("#", "-", ".")


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.4f}"


def _short(name: object, length: int = NAME) -> str:
    text = printable(name).replace("\n", " ")
    return text if len(text) <= length else text[: length - 1] + "…"
