"""Instance AP: results matched to what is annotated, picture by picture, and figures made of the matches."""
