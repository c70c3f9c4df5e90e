"""How `avar-tiny` is made: its tokenizer, its architecture, its training."""
