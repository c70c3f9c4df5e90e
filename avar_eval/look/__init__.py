"""Look at one conversation: the answer about images, its Visual Attention Score, and pictures of where the model looks.

`avar-eval look` is this room's command; `avar_eval.look.conversation.look` is the same as a function.
"""
