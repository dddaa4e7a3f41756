# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's initramfs: one static program (init, workloads, actors) in a cpio archive."""

from harness.image.build import Image, WorkloadInfo, make_image, workload_table

__all__ = ["Image", "WorkloadInfo", "make_image", "workload_table"]
