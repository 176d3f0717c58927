"""Reading checkpoints of other projects into ours, one file a foreign layout."""

from langhops_cli.checkpoint.convert.ledger import Ledger
from langhops_cli.checkpoint.convert.released import LAYOUTS, Conversion, convert_release
from langhops_cli.checkpoint.convert.source import read_foreign
from langhops_cli.checkpoint.convert.swin import convert_backbone, convert_swin
from langhops_cli.checkpoint.convert.write import Report, write_conversion, write_swin

__all__ = [
    "LAYOUTS",
    "Conversion",
    "Ledger",
    "Report",
    "convert_backbone",
    "convert_release",
    "convert_swin",
    "read_foreign",
    "write_conversion",
    "write_swin",
]
