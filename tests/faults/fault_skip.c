// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

WORKLOAD(fault_skip, "P1", "this kernel cannot show it")
{
	skip("this kernel has no such thing");
}
