"""Files of single pictures in the forms that other tools read, edit and train on."""

from langhops_cli.prediction.formats.choice import FORMATS, picture_format
from langhops_cli.prediction.formats.picture_format import PictureFormat

__all__ = ["FORMATS", "PictureFormat", "picture_format"]
