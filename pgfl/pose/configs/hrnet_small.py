# A narrow HRNet in MMPose's configuration format: the demo's estimator, trained on synthetic
# people by pgfl.pose.train_small. It passes through the same code as HRNet-W48.
model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor=dict(
        type="PoseDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="HRNet",
        in_channels=3,
        extra=dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block="BASIC",
                num_blocks=(2,),
                num_channels=(32,),
            ),
            stage2=dict(
                num_modules=1,
                num_branches=2,
                block="BASIC",
                num_blocks=(2, 2),
                num_channels=(16, 32),
            ),
            stage3=dict(
                num_modules=1,
                num_branches=3,
                block="BASIC",
                num_blocks=(2, 2, 2),
                num_channels=(16, 32, 64),
            ),
            stage4=dict(
                num_modules=1,
                num_branches=4,
                block="BASIC",
                num_blocks=(2, 2, 2, 2),
                num_channels=(16, 32, 64, 128),
            ),
        ),
    ),
    head=dict(
        type="HeatmapHead",
        in_channels=16,
        out_channels=17,
        deconv_out_channels=None,
        loss=dict(type="KeypointMSELoss", use_target_weight=True),
    ),
)
