"""One evaluation: how a model is asked, the session that asks it, and what becomes of its answers."""
