"""`stablehand image`: load archives into this machine's containerd, build images from Debian packages, list them."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from stablehand.cli import options
from stablehand.launch.errors import LaunchError


def arguments(parser: argparse.ArgumentParser) -> None:
    from stablehand.launch.imagerecipes import RECIPES

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    load = actions.add_parser("load", help="import an archive (docker save, OCI)")
    load.add_argument("file", type=Path)
    load.add_argument("--name", action="append", default=[], metavar="IMAGE", help="a further name for it")
    build = actions.add_parser("build", help="build an image and import it")
    build.add_argument("name", choices=sorted(RECIPES), metavar="NAME", help=", ".join(sorted(RECIPES)))
    build.add_argument("--output", type=Path, metavar="DIR", help="only write DIR/NAME.tar, import nothing")
    listing = actions.add_parser("ls", help="list the images")
    for action in (load, build, listing):
        options.data_dir(action)
        options.pod_network(action, remembered=True)


def run(args: argparse.Namespace) -> int:
    from stablehand.launch.imagebuild import build
    from stablehand.launch.images import list_images, load

    config = options.network_of(args)
    if args.action == "ls":
        for image in asyncio.run(list_images(config)):
            for name in image.tags or image.digests or (image.id,):
                print(f"{name}\t{image.size / 1e6:.1f} MB\t{image.id.removeprefix('sha256:')[:12]}")
        return 0
    if args.action == "build":
        path = build(args.name, args.output or args.data_dir / "images")
        if args.output is not None:
            print(path)
            return 0
        names: list[str] = []
    else:
        path, names = args.file, args.name
        if not path.is_file():
            raise LaunchError(f"{path}: there is no such file; give an archive that `docker save` or skopeo wrote")
    for name in asyncio.run(load(config, path, names)):
        print(name)
    return 0
