//! A frame's memory, read and written through one bounds check.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_xdp_get_buff_len};
use xdp_lb_common::addr::Mac;
use xdp_lb_common::flow::FlowV4;

use crate::settings;

/// The bytes of a frame.
#[derive(Clone, Copy)]
pub struct Frame {
    ctx: *mut xdp_md,
    start: *mut u8,
    end: *mut u8,
}

/// What the parser found out about a frame.
pub struct Packet<F = FlowV4> {
    /// Client, VIP, ports, protocol.
    pub flow: F,
    /// Flags of the TCP header; 0 for UDP.
    pub tcp_flags: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Octets from the start of the IP header to the end of its packet.
    pub len: u32,
    /// Source MAC.
    pub source: Mac,
    /// Destination MAC.
    pub destination: Mac,
    /// The context, for functions that look at the frame again.
    pub ctx: *mut xdp_md,
}

impl Frame {
    /// The frame of a context.
    #[inline(always)]
    pub fn new(ctx: *mut xdp_md) -> Self {
        // SAFETY: the kernel passes a valid context. Volatile, so that a frame made anew is.
        let (start, end) = unsafe {
            (
                (&raw const (*ctx).data).read_volatile() as usize,
                (&raw const (*ctx).data_end).read_volatile() as usize,
            )
        };
        Self {
            ctx,
            start: start as *mut u8,
            end: end as *mut u8,
        }
    }

    /// The context, for functions of their own: they look at the frame again, as what the packets of
    /// a known connection need of it then stays in registers.
    #[inline(always)]
    pub fn context(&self) -> *mut xdp_md {
        self.ctx
    }

    /// Index of the interface it came in by.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the kernel passes a valid context.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    /// Whether the frame that came in has so many octets. A driver may hand over only the beginning of a
    /// long frame and the rest in other buffers; the headers are in the beginning.
    #[inline(always)]
    pub fn has(&self, len: usize) -> bool {
        if len <= self.end as usize - self.start as usize {
            return true;
        }
        // SAFETY: the kernel passes a valid context. Where there is no such helper, this load of the
        // program does not get here.
        settings::has_buffers() && len as u64 <= unsafe { bpf_xdp_get_buff_len(self.ctx) }
    }

    /// Octets of the frame, in all its buffers.
    #[inline(always)]
    pub fn whole_len(&self) -> usize {
        if settings::has_buffers() {
            // SAFETY: as in `has`.
            return unsafe { bpf_xdp_get_buff_len(self.ctx) } as usize;
        }
        self.first_len()
    }

    /// Octets of the first buffer.
    #[inline(always)]
    pub fn first_len(&self) -> usize {
        self.end as usize - self.start as usize
    }

    /// The frame from a variable offset on. The pointer is made once, as the verifier knows a bound
    /// only for the pointer that was compared.
    #[inline(always)]
    pub fn from(&self, offset: usize) -> Self {
        Self {
            start: core::hint::black_box(self.start.wrapping_add(offset)),
            ..*self
        }
    }

    /// Whether `len` octets from `offset` lie within the frame.
    #[inline(always)]
    pub fn holds(&self, offset: usize, len: usize) -> bool {
        self.start.wrapping_add(offset + len) <= self.end
    }

    /// Reads a value that [`Self::holds`] vouched for, in the byte order of the frame.
    ///
    /// # Safety
    /// `holds(offset, size_of::<T>())` was true; otherwise the verifier refuses the program.
    #[inline(always)]
    pub unsafe fn read<T: Copy>(&self, offset: usize) -> T {
        let at = self.start.wrapping_add(offset).cast::<T>();
        // SAFETY: within the frame, as the caller checked; packets have no alignment.
        unsafe { at.read_unaligned() }
    }

    /// The sum over `LEN` octets, a multiple of four and at most 512, for a checksum: by a helper, as
    /// the verifier would walk each step of a loop.
    ///
    /// # Safety
    /// As [`Self::read`], for all of them.
    #[inline(always)]
    pub unsafe fn sum<const LEN: usize>(&self, offset: usize) -> u32 {
        let at = self.start.wrapping_add(offset).cast();
        // SAFETY: the octets lie within the frame, as the caller checked; there is nothing to take away.
        unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, at, LEN as u32, 0) as u32 }
    }

    /// Writes a value.
    ///
    /// # Safety
    /// As [`Self::read`].
    #[inline(always)]
    pub unsafe fn write<T: Copy>(&self, offset: usize, value: T) {
        let at = self.start.wrapping_add(offset).cast::<T>();
        // SAFETY: within the frame, as the caller checked; packets have no alignment.
        unsafe { at.write_unaligned(value) }
    }
}
