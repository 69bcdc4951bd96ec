"""The table of a RunStore, to be used with the mouse: `table.py` writes it; `store.js` sorts, filters, ticks, asks."""
