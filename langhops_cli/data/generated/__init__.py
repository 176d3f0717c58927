"""Scenes drawn by the program itself: figures made of parts, composed and rendered."""
