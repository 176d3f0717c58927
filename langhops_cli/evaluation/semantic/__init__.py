"""Semantic hIoU: maps of part names, pixel by pixel, as OV-PARTS scores them."""
