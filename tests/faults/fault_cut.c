// SPDX-License-Identifier: GPL-2.0-or-later
#include <unistd.h>

#include "workload.h"

WORKLOAD(fault_cut, "P1", "the workload ends without saying so")
{
	property("P1");
	observe("the last words");
	_exit(0);
}
