"""Where a run's work is computed: in this process, or by actors on a Ray cluster (`--cluster`).

How data flows: a session makes a `Plan` of each batch, or of each question for an engine that batches by itself: a
generator that yields jobs (`jobs`: generate, ask, measure, causal passes), gets their results and ends with records.
`Here` computes jobs one after the other with the session's own model. `Driver` keeps the queue: longest expected first,
each job to whichever actor is free, a plan's next job before new plans; what was on a lost actor or node goes back into
the queue. It runs in the session's process, which alone writes the record book; on the other side of a `Workplace` are
Ray's actors (`ray_workplace`), each with one copy of the model, or those of a simulation that sleep. Batches have the
same make-up wherever they are computed, and jobs carry all that decides their result: results are those of one process.

    session  --Plan-->  Driver  --jobs-->  Worker on a node (its own model)
    book  <--records--  Driver  <-results--
"""
