/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints of the migration protocol. Upstream's VFIO has none.
 *
 * States are those of `struct vfio_device_migration_info`, include/uapi/linux/vfio.h
 * of Linux 5.8 to 5.17: bit 0 _RUNNING, bit 1 _SAVING, bit 2 _RESUMING.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ferry

#if !defined(_TRACE_FERRY_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_FERRY_H

#include <linux/tracepoint.h>

#define ferry_show_device_state(state)			\
	__print_symbolic(state,				\
		{ 0, "STOP" },				\
		{ 1, "RUNNING" },			\
		{ 2, "STOP_COPY" },			\
		{ 3, "PRE_COPY" },			\
		{ 4, "RESUMING" },			\
		{ 6, "ERROR" })

/* A transition came to its end; result is 0 or the errno that was refused with. */
TRACE_EVENT(vfio_migration_state,
	TP_PROTO(const char *device, u32 from, u32 to, int result),
	TP_ARGS(device, from, to, result),
	TP_STRUCT__entry(
		__string(device, device)
		__field(u32, from)
		__field(u32, to)
		__field(int, result)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->from = from;
		__entry->to = to;
		__entry->result = result;
	),
	TP_printk("device=%s from=%s to=%s result=%d", __get_str(device),
		  ferry_show_device_state(__entry->from),
		  ferry_show_device_state(__entry->to), __entry->result)
);

/* The user read pending_bytes, or asked for VFIO_MIG_GET_PRECOPY_INFO. */
TRACE_EVENT(vfio_migration_pending,
	TP_PROTO(const char *device, u32 state, u64 pending),
	TP_ARGS(device, state, pending),
	TP_STRUCT__entry(
		__string(device, device)
		__field(u32, state)
		__field(u64, pending)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->state = state;
		__entry->pending = pending;
	),
	TP_printk("device=%s state=%s pending=%llu", __get_str(device),
		  ferry_show_device_state(__entry->state), __entry->pending)
);

/* Saving: a chunk was presented. Resuming: a chunk was consumed. */
TRACE_EVENT(vfio_migration_chunk,
	TP_PROTO(const char *device, u32 state, u64 size, u64 total),
	TP_ARGS(device, state, size, total),
	TP_STRUCT__entry(
		__string(device, device)
		__field(u32, state)
		__field(u64, size)
		__field(u64, total)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->state = state;
		__entry->size = size;
		__entry->total = total;
	),
	TP_printk("device=%s state=%s size=%llu total=%llu", __get_str(device),
		  ferry_show_device_state(__entry->state), __entry->size,
		  __entry->total)
);

/* An access, a transition or a stream was refused. */
TRACE_EVENT(vfio_migration_refusal,
	TP_PROTO(const char *device, u32 state, int error, const char *reason),
	TP_ARGS(device, state, error, reason),
	TP_STRUCT__entry(
		__string(device, device)
		__field(u32, state)
		__field(int, error)
		__string(reason, reason)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->state = state;
		__entry->error = error;
		__assign_str(reason);
	),
	TP_printk("device=%s state=%s errno=%d reason=%s", __get_str(device),
		  ferry_show_device_state(__entry->state), __entry->error,
		  __get_str(reason))
);

#endif /* _TRACE_FERRY_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH trace/events
/* This part must be outside protection */
#include <trace/define_trace.h>
