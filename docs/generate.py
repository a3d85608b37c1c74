"""Writes the pages of docs/api; with `--tables` also the tables of networks, which are built for it.

A test compares what is in the repository with what this program writes.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "resnet_keras"
API = ROOT / "docs" / "api"
BUILDERS = re.compile(r"(ResNet|PlainNet)\d+")
NOTE = "<!-- Written by docs/generate.py from the stubs of the package. -->"


def folders() -> list[str]:
    """Returns the folders of the package that have public names, in alphabetical order."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.pyi"))


def public_names(folder: str) -> dict[str, str]:
    """Returns the names of a folder's stub, each with its module, or with an empty string for a module itself."""
    tree = ast.parse((PACKAGE / folder / "__init__.pyi").read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: node.module or "" for node in nodes for alias in node.names}


def first_line(file: Path) -> str:
    """Returns the first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def summary(folder: str, name: str, module: str) -> str:
    """Returns the first line of a public name's docstring."""
    source = PACKAGE / folder / f"{module or name}.py"
    if not module:
        return first_line(source)
    body = ast.parse(source.read_text(encoding="utf-8")).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            return str(following.value.value).partition("\n")[0] if documented else ""
    return ""


def builder_summary(name: str) -> str:
    """Returns what a named network is."""
    kind, depth = re.fullmatch(r"(ResNet|PlainNet)(\d+)", name).groups()  # type: ignore[union-attr]
    return f"Returns the {'residual' if kind == 'ResNet' else 'plain'} network of {depth} layers."


def builder_rows(names: list[str]) -> Iterator[str]:
    """Yields a table of the named networks, whose functions have the arguments of `build_with_weights`."""
    yield "## ResNet18 to PlainNet110\n"
    yield "They take the arguments of `build_with_weights` after `network`.\n"
    yield "| builder | network | image |\n|---|---|---|"
    for name in names:
        depth = int(re.sub(r"\D", "", name))
        kind = "residual" if name.startswith("ResNet") else "plain"
        small = depth in (20, 32, 44, 56, 110, 1202)
        anchor = f'<a id="resnet_keras.applications.{name}"></a>'
        yield f"| {anchor}`{name}` | {kind}, {depth} layers | {'32x32, CIFAR' if small else '224x224, ImageNet'} |"
    yield ""


def folder_page(folder: str) -> str:
    """Returns the page of a folder: a directive of mkdocstrings for each public name."""
    names = public_names(folder)
    builders = [name for name, module in names.items() if module and BUILDERS.fullmatch(name)]
    lines = [NOTE, "", f"# resnet_keras.{folder}", "", first_line(PACKAGE / folder / "__init__.py"), ""]
    for name in names:
        if name not in builders:
            lines += [f"::: resnet_keras.{folder}.{name}", ""]
    if builders:
        lines += builder_rows(builders)
    return "\n".join(lines).rstrip() + "\n"


def module_page(name: str) -> str:
    """Returns the page of a module that is public itself."""
    return "\n".join([NOTE, "", f"# resnet_keras.{name}", "", f"::: resnet_keras.{name}", ""])


def index_page() -> str:
    """Returns the page of the names at the top, each with a link to its folder's page."""
    lines = [NOTE, "", "# API reference", ""]
    lines += ["`import resnet_keras` gives these names. The others are in namespaces: `resnet_keras.surgery.fold`.", ""]
    lines += ["## Names at the top", "", "| name | |", "|---|---|"]
    names = public_names("")
    for name, folder in names.items():
        if not folder:
            continue
        anchor = f'<a id="resnet_keras.{name}"></a>'
        what = builder_summary(name) if BUILDERS.fullmatch(name) else summary(folder, name, public_names(folder)[name])
        lines.append(
            f"| {anchor}[`{name}`]({folder}.md#resnet_keras.{folder}.{name}) | {what.replace('|', chr(92) + '|')} |"
        )
    lines += ["", "## Namespaces", "", "| namespace | |", "|---|---|"]
    for name in (name for name, folder in names.items() if not folder):
        file = PACKAGE / name / "__init__.py"
        what = first_line(file if file.is_file() else PACKAGE / f"{name}.py")
        lines.append(f'| <a id="resnet_keras.{name}"></a>[`resnet_keras.{name}`]({name}.md) | {what} |')
    return "\n".join(lines) + "\n"


def api_pages() -> dict[Path, str]:
    """Returns the text of each page of the API reference."""
    modules = [name for name, folder in public_names("").items() if not folder and name not in folders()]
    pages = {API / "index.md": index_page()}
    pages |= {API / f"{folder}.md": folder_page(folder) for folder in folders()}
    return pages | {API / f"{name}.md": module_page(name) for name in modules}


def complexities() -> dict[Path, str]:
    """Writes the file of the networks' complexity, which takes minutes; the tables are made from it."""
    import keras

    import resnet_keras
    from resnet_keras.networks.complexity import STORED, complexity

    found = []
    for name in {**resnet_keras.ARCHITECTURES, **resnet_keras.networks.FAMILY}:
        with keras.StatelessScope(initialize_variables=False):  # variables have shapes alone
            found.append(f'"{name}": {json.dumps(dataclasses.asdict(complexity(name)))}')
    STORED.write_text("{\n" + ",\n".join(found) + "\n}\n", encoding="utf-8")
    return {}


def networks_table() -> str:
    """Returns a table of all networks."""
    import resnet_keras

    catalog = {**resnet_keras.ARCHITECTURES, **resnet_keras.networks.FAMILY}
    lines = resnet_keras.networks.complexity_table(tuple(catalog)).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")][:-1] for line in lines]
    return "\n".join(f"| {' | '.join(re.sub('-{3,}', '---', cell) for cell in row)} |" for row in rows)


def weights_table() -> str:
    """Returns a table of networks with weights in the package, published weights, or a published error of the paper."""
    import keras

    import resnet_keras

    def row(label: str, model: keras.Model, error: float, weights: str, size: float) -> tuple[str, ...]:
        count = resnet_keras.networks.parameters(model) / 1e6
        cost = resnet_keras.networks.multiply_adds(model) / 1e9
        return (f"`{label}`", f"{count:.2f} M", f"{cost:#.3g} G", f"{100 - error:.2f} %", weights, f"{size:.1f} MB")

    rows = []
    for name in resnet_keras.list_pretrained():
        facts = resnet_keras.weights.pretrained_facts(name)
        shape = (*facts.preprocessing.image_size, facts.preprocessing.channels)
        with keras.StatelessScope(initialize_variables=False):
            model = resnet_keras.build(facts.architecture, input_shape=shape, classes=len(facts.class_names))
        size = (PACKAGE / "weights" / "pretrained" / f"{name}.safetensors").stat().st_size / 1e6
        rows.append(row(name, model, 100 * facts.evaluation["top1_error"], "in the package", size))
    published = {
        **{name: ("imagenet_torchvision", "`torchvision`") for name in (f"resnet{d}" for d in (18, 34, 50, 101, 152))},
        **{name: ("cifar10", "train: `cifar10`") for name in (f"resnet{d}" for d in (20, 32, 44, 56, 110))},
    }
    for name, (recipe, weights) in published.items():
        with keras.StatelessScope(initialize_variables=False):
            model = resnet_keras.build(name, bottleneck_stride="3x3")  # as in torchvision; others have none
        error = resnet_keras.recipes.PUBLISHED[recipe, name].error
        size = 4 * sum(math.prod(weight.shape) for weight in model.weights) / 1e6
        rows.append(row(name, model, error, weights, size))
    head = ("network", "parameters", "multiply-adds", "top-1", "weights", "size")
    return resnet_keras.tables.markdown_table(head, rows, text=("weights",))


def tables() -> dict[Path, str]:
    """Returns the text of each page that has a generated table."""
    pages = {ROOT / "README.md": ("zoo", weights_table), ROOT / "docs" / "networks.md": ("networks", networks_table)}
    return {path: replaced(path.read_text(encoding="utf-8"), name, make()) for path, (name, make) in pages.items()}


def replaced(text: str, name: str, content: str) -> str:
    """Returns a page with new content between its marks `<!-- generated: NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: The page does not have the marks exactly once.
    """
    begin, end = f"<!-- generated: {name} -->\n", "\n<!-- end -->"
    if text.count(begin) != 1 or end not in text.partition(begin)[2]:
        raise ValueError(f"Expected one pair of marks around {name!r}. Received: {text.count(begin)}")
    before, _, rest = text.partition(begin)
    return before + begin + content + rest[rest.index(end) :]


def main(arguments: Sequence[str]) -> int:
    """Writes what has changed, the tables only with `--tables`, and removes pages of folders that are gone."""
    pages = api_pages()
    for path in set(API.glob("*.md")) - set(pages):
        path.unlink()
    if "--tables" in arguments:
        pages |= {**complexities(), **tables()}
    for path, text in pages.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
