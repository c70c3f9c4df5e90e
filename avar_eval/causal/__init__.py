"""Did looking matter? What an answer owes to its image, on some of a run's measured rows. docs: `docs/measures.md`.

Three questions, none of which attention answers:

- Do the words depend on the image? `dependence`: KL(p(· | image, prefix) ‖ p(· | grey, prefix)) at each token of the
  recorded response, where grey is every image replaced by a flat grey one of the same size: the same tokens and roles.
- Does the image add towards the truth? `information`: log-probability of the reference answer with the image minus
  with grey.
- Does the answer come through attention to the image? `knockout`: what the log-probability of the response changes by
  when text cannot attend to image tokens (`avar_eval.attention.knockout`).

`measures.measure_rows` takes all of them in at most four batched teacher-forced passes. `passes` keeps the final hidden
states of the response and makes logits of a few tokens at a time, never [tokens x vocabulary] of a response. `altered`
makes the pictures and questions that are asked anew: blind (grey, or none) and swapped. Everything here is a function
of a transformers backend and its inputs; what is recorded, and when, is the session's.
"""
