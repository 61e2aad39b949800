# %% run tags=["remove-cell"]
import os
import subprocess
import sys
import tempfile

from IPython.display import Image, display


def show(name):
    """Run an example as a reader would; print what it says and show its picture."""
    picture = Path(tempfile.mkdtemp()) / "picture.png"
    command = [sys.executable, f"examples/{name}.py", picture]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"MPLBACKEND": "Agg"}
    )
    print((done.stdout.replace(f"drawn to {picture}", "") + done.stderr).strip("\n"))
    if picture.exists():
        display(Image(picture.read_bytes()))
    elif "holds no texts" not in done.stderr:
        raise RuntimeError(f"examples/{name}.py drew nothing")


# %% templates tags=["remove-input"]
show("templates")

# %% text tags=["remove-input"]
show("text")

# %% probe tags=["remove-input"]
show("probe")

# %% imbalance tags=["remove-input"]
show("imbalance")

# %% c_path tags=["remove-input"]
show("c_path")
