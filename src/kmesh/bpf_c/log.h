/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The programs' own log: numbers here, text in user space. */
#ifndef KMESH_LOG_H
#define KMESH_LOG_H

#include "observe.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* loader */
} km_logs SEC(".maps");

static __always_inline struct km_switch *km_switches(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&km_switch, &zero);
}

static __noinline __attribute__((unused)) void km_log(const struct km_log *say)
{
	struct km_log *record;

	if (!say)
		return;
	record = bpf_ringbuf_reserve(&km_logs, sizeof(*record), 0);
	if (!record) {
		km_tally_up(KM_TALLY_LOGS_LOST);
		return;
	}
	*record = *say;
	record->time = bpf_ktime_get_ns();
	km_tally_up(KM_TALLY_LOGS);
	bpf_ringbuf_submit(record, km_wake(&km_logs));
}

/* Costs a comparison when nobody wants to know. The look-up behind ``switches`` is made once: to
 * kernels before 6.18 a second one may be absent though the first was not. */
#define KM_LOG(switches, ...)                                                     \
	do {                                                                      \
		const struct km_switch *switches_ = (switches);                   \
		struct km_log say_ = { __VA_ARGS__ };                             \
                                                                                  \
		if (switches_ && say_.level <= switches_->log_level)              \
			km_log(&say_);                                            \
	} while (0)

#endif
