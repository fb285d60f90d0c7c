"""Unpacks what a CPU build of tch needs from wheels: libraries, headers, licences.

Usage: python3 unpack.py FOLDER SHA256 WHEEL [SHA256 WHEEL]...
The places of the files are kept, because the libraries look for each other by relative paths.
"""

import hashlib, os, re, shutil, sys, zipfile

# The CUDA half, the Python half, and CUDA's profiling and static libraries are never loaded by a CPU build.
KEEP = re.compile(
    r"torch/include/.+|torch/lib/lib[^/]+|torch/version\.py|torch\.libs/.+"
    r"|nvidia/.+/lib/lib(cudart|cupti)\.so[^/]*|[^/]+\.dist-info/(METADATA|.*(LICENSE|NOTICE|licenses/|License).*)"
)
DROP = re.compile(r"torch/lib/lib(torch_cuda|torch_python|torch_nvshmem|c10_cuda|caffe2_nvrtc|shm)[^/]*")

folder, *rest = sys.argv[1:]
for digest, wheel in zip(rest[0::2], rest[1::2]):
    found = hashlib.sha256()
    with open(wheel, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    if found.hexdigest() != digest:
        os.remove(wheel)
        sys.exit(f"{os.path.basename(wheel)}: sha256 is {found.hexdigest()}, expected {digest}; deleted")
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if entry.is_dir() or ".." in name.split("/") or not KEEP.fullmatch(name) or DROP.fullmatch(name):
                continue
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(entry) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                if entry.file_size > 1 << 20:
                    # The folder becomes the cache by a rename, which must not reach the disk before the data.
                    target.flush()
                    os.fsync(target.fileno())

# This library stands for the CPU half and the CUDA half together. Some linkers record it in every program, which
# then asks for the CUDA half; as a link to the CPU half it stands for what is here.
umbrella = os.path.join(folder, "torch/lib/libtorch.so")
if os.path.exists(umbrella):
    os.remove(umbrella)
    os.symlink("libtorch_cpu.so", umbrella)
