"""The page of `langhops demo`: one model behind a form in the browser."""
