"""The live panel: one widget whose picture is a function of one state, for runs here and for files that grow."""
