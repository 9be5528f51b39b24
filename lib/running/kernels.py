"""Kernels that start warm: forked from a process that has imported what the notebooks import.

A fresh kernel imports torch, fastai, pandas and seaborn for seconds before its first cell does
anything. multiprocessing's fork server does so once; each kernel is then a child of it.
"""

import atexit
import multiprocessing
import os
import sys
import tempfile
import threading

from ipykernel.kernelapp import IPKernelApp
from jupyter_client import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

PRELOADED = [  # pandas and sklearn come with these; nothing of lib, which may change meanwhile
    "ipykernel.ipkernel",
    "pydantic",
    "seaborn",
    "safetensors.torch",
    "fastai.vision.data",
    "fastai.callback.all",
]
INLINE = "module://matplotlib_inline.backend_inline"  # matplotlib reads it when it is imported
LONGEST = 80  # characters of a folder in which sockets can lie: a socket's whole path may have 107


class ForkedKernel(getattr(multiprocessing.context, "ForkServerProcess", object)):  # not on Windows
    """A kernel as a child of the fork server, with what jupyter_client asks of a subprocess.Popen.

    It ends with the process that asked for it, and with the server.
    """

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], folder: str, environment: dict[str, str]):
        super().__init__()
        self.arguments, self.folder, self.environment = arguments, folder, environment

    def run(self) -> None:
        """In the child: becomes what `python -m ipykernel_launcher` would be there."""
        from fastai.torch_core import np, torch  # preloaded

        os.setsid()
        os.chdir(self.folder)
        os.environ.update(self.environment)  # beside what the imports have set
        sys.path.pop(0)  # the repository, as -c puts it there
        sys.argv[1:] = self.arguments
        np.random.seed()  # else every kernel had the server's state
        torch.seed()
        threading.Thread(target=end_with_parent, daemon=True).start()
        IPKernelApp.launch_instance(
            [*self.arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
        )
        atexit._run_exitfuncs()  # which multiprocessing leaves out

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def end_with_parent() -> None:
    """Ends this process as soon as the one that asked for it is gone."""
    multiprocessing.parent_process().join()
    os._exit(1)


class ForkProvisioner(LocalProvisioner):
    """Forks the kernel where jupyter_client's own starts a command."""

    async def launch_kernel(self, cmd: list[str], **kwargs):
        self.process = ForkedKernel(cmd[cmd.index("-f") :], os.getcwd(), kwargs["env"])
        self.process.start()
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class KernelManager(AsyncKernelManager):
    """Talks to a fresh kernel through files in the temporary folder, rather than open ports."""

    def __init__(self, **kwargs):
        if os.name == "posix" and len(folder := tempfile.gettempdir()) < LONGEST:
            kwargs |= {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}
        super().__init__(**kwargs)


class WarmKernelManager(KernelManager):
    """The same for a forked kernel; the first one starts the fork server."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        os.environ.setdefault("MPLBACKEND", INLINE)
        multiprocessing.set_forkserver_preload(PRELOADED)
        self.provisioner = ForkProvisioner(kernel_spec=self.kernel_spec, parent=self)
