"""How things are shown without views: HTML, text tables, and the functions that views fill in."""
