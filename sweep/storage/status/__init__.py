"""How a run stands, from its run folder alone: `reader`, with the best cells so far, the time to
the end, the arms of several `starts`, and what else there is to say (`notes`)."""
