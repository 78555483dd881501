"""Whether a text gives the answer of a fact. Text in, result out."""
