import warnings

# fastai's import uses what torch 2.14 deprecates; who runs a notebook can do nothing about it
warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
