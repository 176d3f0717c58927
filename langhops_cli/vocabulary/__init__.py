"""Names and trees of names, in language only."""

from langhops_cli.vocabulary.grammar import parse_vocabulary
from langhops_cli.vocabulary.names import clean_name, is_spelt_as_part, split_part_name
from langhops_cli.vocabulary.tree import ObjectNode, PartClass, PartNode, Vocabulary, VocabularyError

__all__ = [
    "ObjectNode",
    "PartClass",
    "PartNode",
    "Vocabulary",
    "VocabularyError",
    "clean_name",
    "is_spelt_as_part",
    "parse_vocabulary",
    "split_part_name",
]
