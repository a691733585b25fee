"""Study: experiments, their run folders, and what is done with the models that they leave."""
