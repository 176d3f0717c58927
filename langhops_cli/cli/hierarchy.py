"""`langhops hierarchy`: show, check, propose, compare and export trees of names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option, Typer

from langhops_cli.cli.console import note, out, print_json, print_tree, say
from langhops_cli.cli.hierarchy_report import print_findings, print_map, print_proposal, tree_branch
from langhops_cli.errors import DATA, UserError
from langhops_cli.hierarchy.sources import EMBEDDED, Tree, find_tree

if TYPE_CHECKING:
    from langhops_cli.hierarchy.check import Budget
    from langhops_cli.vocabulary import Vocabulary

TREE_HELP = "Names 'dog:head,leg*4', @file, a prepared set, a dataset, or a checkpoint (folder, Hub id or embedded)."
TreeArgument = Annotated[str, Argument(metavar="TREE", help=TREE_HELP)]
RootOption = Annotated[
    Path | None, Option("--data-root", help="Folder of the prepared sets; $LANGHOPS_DATA or ./data when left out.")
]
JsonOption = Annotated[bool, Option("--json", help="Print the result as JSON.")]
SimilarityOption = Annotated[
    float, Option(min=0.0, max=1.0, help="Least similarity of two names that are spelt otherwise and mapped.")
]

hierarchy = Typer(
    help="Show, check, propose, compare and export trees of objects and parts. A TREE is named in one way everywhere: "
    "as text, @file, prepared set, dataset or checkpoint.",
    rich_markup_mode=None,
)


@hierarchy.command("show")
def show(
    vocab: Annotated[list[str], Argument(help=TREE_HELP)],
    data_root: RootOption = None,
    as_json: Annotated[bool, Option("--json", help="Print the tree as JSON.")] = False,
    as_yaml: Annotated[bool, Option("--yaml", help="Print the tree as YAML, to be kept as a vocabulary file.")] = False,
) -> None:
    """Show a tree of names.

    Several texts are read as one tree.

    Example: langhops hierarchy show 'dog:head(ear,eye),leg*4,tail; car:wheel'

    Example: langhops hierarchy show partimagenet

    Example: langhops hierarchy show embedded --yaml
    """
    _refuse_both(as_json, as_yaml)
    tree = find_tree(vocab, data_root=data_root)
    if as_json:
        print_json(tree.vocabulary.to_dict())
    elif as_yaml:
        _print_yaml(tree.vocabulary.to_yaml())
    else:
        print_tree(tree_branch(tree))


@hierarchy.command("check")
def check(
    tree: TreeArgument,
    checkpoint: Annotated[str, Option(help="The model it is meant for: folder, Hub id or embedded.")] = EMBEDDED,
    data_root: RootOption = None,
    strict: Annotated[bool, Option("--strict", help="Exit with 3 for notes as well.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look a tree over before it is used.

    Tells names that are one in several spellings, words for one thing, objects that are parts as well, parts that
    neither a dataset nor the model knows, with the nearest known one, more names than the model can look for at once,
    and parts that come in numbers. The exit code is 3 if something is an error.

    Example: langhops hierarchy check 'car:wheel,wheels,hood,bonnet'

    Example: langhops hierarchy check @names.yaml --checkpoint runs/stage2 --strict
    """
    vocabulary = find_tree(tree, data_root=data_root).vocabulary
    budget = _budget(checkpoint)
    from langhops_cli.hierarchy.check import check_tree
    from langhops_cli.hierarchy.known import KnownTrees, load_known
    from langhops_cli.hierarchy.similarity import NameEmbeddings
    from langhops_cli.hierarchy.wordnet import load_wordnet

    wordnet = load_wordnet()
    trained = {} if budget is None or budget.trained is None else {checkpoint: budget.trained}
    known = KnownTrees({**load_known(), **trained}, wordnet)
    findings = check_tree(vocabulary, known=known, wordnet=wordnet, embeddings=NameEmbeddings(), budget=budget)
    errors = sum(finding.level == "error" for finding in findings)
    if as_json:
        counted = {"errors": errors, "notes": len(findings) - errors}
        print_json({**counted, "findings": [vars(finding) for finding in findings]})
    else:
        print_findings(findings, vocabulary)
    if errors or (strict and findings):
        raise Exit(DATA)


@hierarchy.command("build")
def build(
    objects: Annotated[list[str], Argument(metavar="OBJECT", help="Names of objects, 'dog' 'office chair'.")],
    language_model: Annotated[
        str | None,
        Option(help="A causal language model that ranks the candidates: folder, GGUF file or Hub id."),
    ] = None,
    trees: Annotated[
        list[str] | None, Option("--tree", metavar="TREE", help="A further tree to take parts from; may be repeated.")
    ] = None,
    min_confidence: Annotated[float, Option(min=0.0, max=1.0, help="Leave out parts less sure than this.")] = 0.3,
    most: Annotated[int, Option(min=1, help="Parts that an object gets at most.")] = 12,
    data_root: RootOption = None,
    as_json: Annotated[bool, Option("--json", help="Print parts, confidence and sources as JSON.")] = False,
    as_yaml: Annotated[bool, Option("--yaml", help="Print the tree as YAML, to be kept as a vocabulary file.")] = False,
) -> None:
    """Propose parts for objects, each with its sources and how sure it is.

    Parts come from the trees of the datasets and from WordNet; for an object that none of them has, from what it is a
    kind of, from a relative, or from the known object with the nearest name. The confidence says how sure it is that
    the object has such a part and that one can see it: what every source leaves open is multiplied. With a language
    model its odds are multiplied by how much likelier the model finds the part after the object's name.

    Example: langhops hierarchy build dog 'office chair'

    Example: langhops hierarchy build husky --yaml > husky.yaml

    Example: langhops hierarchy build cup --language-model HuggingFaceTB/SmolLM2-135M-Instruct
    """
    _refuse_both(as_json, as_yaml)
    _check_objects(objects)
    further = {_tree_name(text, tree): tree.vocabulary for text, tree in _further(trees or [], data_root)}
    from langhops_cli.hierarchy.build import build_parts
    from langhops_cli.hierarchy.known import load_known

    proposal = build_parts(
        objects,
        trees={**load_known(), **further},
        language_model=language_model,
        min_confidence=min_confidence,
        most=most,
    )
    if as_json:
        print_json(proposal.to_dict())
        return
    if as_yaml:
        _print_yaml(proposal.vocabulary.to_yaml())
    else:
        print_proposal(proposal)
    for remark in proposal.remarks:
        note(remark)


@hierarchy.command("compare")
def compare(
    first: Annotated[str, Argument(metavar="TREE", help="The tree whose names are mapped; see show.")],
    second: Annotated[str, Argument(metavar="ONTO", help="The tree they are mapped onto.")],
    many: Annotated[
        bool, Option("--many", help="Let several names share a counterpart; else each is taken once.")
    ] = False,
    min_similarity: SimilarityOption = 0.65,
    map_to: Annotated[
        Path | None, Option("--out", metavar="FILE.yaml", help="Also write the mapping, to be read by programs.")
    ] = None,
    data_root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Map the names of one tree onto another's.

    Objects first, then the parts of each onto the parts of its counterpart; what is left over onto parts of the same
    name elsewhere. Equal names come before other spellings, these before other words for one thing, and these before
    similar ones.

    Example: langhops hierarchy compare partimagenet pascal-part-116

    Example: langhops hierarchy compare paco 'car:wheel,bonnet' --many --out map.yaml
    """
    one, other = (find_tree(text, data_root=data_root).vocabulary for text in (first, second))
    if map_to is not None:
        _check_out(map_to)
    from langhops_cli.hierarchy.compare import compare_trees
    from langhops_cli.hierarchy.similarity import NameEmbeddings
    from langhops_cli.hierarchy.wordnet import load_wordnet

    found = compare_trees(
        one, other, wordnet=load_wordnet(), embeddings=NameEmbeddings(), many=many, min_similarity=min_similarity
    )
    if map_to is not None:
        from langhops_cli.checkpoint.files import write_text

        write_text(map_to, found.to_yaml())
        note(f"the mapping is in {map_to}")
    if as_json:
        print_json(found.to_dict())
    else:
        print_map(found)


@hierarchy.command("export")
def export(
    tree: TreeArgument,
    out_file: Annotated[Path, Option("--out", metavar="FILE", help="The file to write.")],
    format_: Annotated[
        str | None, Option("--format", help="yaml, json, dot (Graphviz) or html; by the file's ending if left out.")
    ] = None,
    data_root: RootOption = None,
) -> None:
    """Write a tree as YAML, JSON, Graphviz or a page for the browser.

    The page is one file that folds, is searched and works without a network.

    Example: langhops hierarchy export paco --out paco.html

    Example: langhops hierarchy export 'dog:head,leg*4' --out dog.dot
    """
    _check_out(out_file)
    from langhops_cli.hierarchy.export import FORMATS

    endings = {"yml": "yaml", "htm": "html", "gv": "dot"}
    ending = out_file.suffix.removeprefix(".").lower()
    chosen = format_ or endings.get(ending, ending)
    if chosen not in FORMATS:
        wrong = f"--format {format_} is not known" if format_ else f"{out_file} has no ending that tells the format"
        raise UserError(f"{wrong}; give --format {', '.join(FORMATS)}")
    found = find_tree(tree, data_root=data_root)
    from langhops_cli.checkpoint.files import write_text

    write_text(out_file, FORMATS[chosen](found.vocabulary, _title(found)))
    say(str(out_file))


def _refuse_both(as_json: bool, as_yaml: bool) -> None:
    if as_json and as_yaml:
        raise UserError("--json and --yaml exclude each other; give one of them")


def _print_yaml(text: str) -> None:
    out.print(text, end="", markup=False, emoji=False, soft_wrap=True)


def _check_objects(objects: list[str]) -> None:
    """Refuse what is a vocabulary or a file rather than names of objects; a remark in brackets may stand."""
    from langhops_cli.vocabulary import parse_vocabulary

    for name in objects:
        if name.startswith("@"):
            raise UserError(f"{name}: build takes names of objects, 'dog' 'office chair', no file")
        if any(character in name for character in ',;:*"'):
            found = parse_vocabulary(name.replace(",", ";") if ":" not in name else name)
            remedy = " ".join(f"'{item.name}'" for item in found.objects)
            raise UserError(f"{name}: build takes names of objects alone, such as {remedy}; it finds the parts itself")


def _further(texts: list[str], data_root: Path | None) -> list[tuple[str, Tree]]:
    return [(text, find_tree(text, data_root=data_root)) for text in texts]


def _tree_name(text: str, tree: Tree) -> str:
    return Path(tree.name).name if tree.name else text


def _title(tree: Tree) -> str:
    return Path(tree.name).name if tree.name else "tree of names"


def _check_out(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder; give --out a file", code=DATA)


def _budget(checkpoint: str) -> Budget | None:
    """What the model can look for; None, with a word, for one that finds no parts."""
    from langhops_cli.hierarchy.check import Budget
    from langhops_cli.hierarchy.sources import read_checkpoint
    from langhops_cli.vocabulary import Vocabulary

    record, config = read_checkpoint(checkpoint)
    names = record.get("vocabulary")
    trained: Vocabulary | None = Vocabulary.from_dict(names) if names else None
    if config.level != "parts":
        note(f"{checkpoint} was trained on objects only: it looks for no parts")
        return None
    hierarchy = config.hierarchy
    return Budget(hierarchy.max_queries, hierarchy.num_kept, hierarchy.queries_per_part, trained)
