"""The archive that Partial-REID's and Partial-iLIDS' archives are published in."""

from pgfl.untrusted.obtain import Source

CONTAINER = Source(
    name="dataset2.zip",
    url="https://github.com/lightas/ICCV19_Pose_Guided_Occluded_Person_ReID/raw/master/dataset2.zip",
)
