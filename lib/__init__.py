import warnings

# fastai's import uses what torch 2.14 deprecates; nobody who runs a notebook can do anything about it
warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
