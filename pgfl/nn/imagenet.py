"""Where torchvision's ImageNet weights come from."""

from pgfl.untrusted.obtain import Source

IMAGENET: dict[str, Source] = {
    name: Source(
        file,
        checksum=f"sha256:{file.split('-')[1].removesuffix('.pth')}",
        url=f"https://download.pytorch.org/models/{file}",
        note=f"It holds torchvision's ImageNet weights of {name}.",
    )
    for name, file in {
        "resnet18": "resnet18-f37072fd.pth",
        "resnet50": "resnet50-0676ba61.pth",
    }.items()
}
