//! What the data plane pinned, opened beside it: its tables, its program, its clock.

use std::path::Path;

use aya::maps::{Map, MapData};
use aya::programs::Xdp;
use aya::{TestRun as _, TestRunOptions};
use xdp_lb::dataplane::ebpf::Ebpf;
use xdp_lb::dataplane::mmap::MappedArray;
use xdp_lb::dataplane::pins::Pins;
use xdp_lb_common::tick::LongTick;
use xdp_lb_tests::program::Program;

/// A table, by its name.
pub(crate) fn map(pins: &Pins, name: &str) -> Map {
    Map::from_map_data(MapData::from_pin(pins.map(name)).unwrap()).unwrap()
}

/// A table that userspace maps, in memory.
pub(crate) fn mapped<T: aya::Pod>(pins: &Pins, name: &str) -> MappedArray<T> {
    let map = MapData::from_pin(pins.map(name)).unwrap();
    let len = map.info().unwrap().max_entries();
    MappedArray::new(map.fd(), len).unwrap()
}

/// The program by another way: runs need only this, while changes take the data plane for themselves.
pub(crate) fn second_handle(ebpf: &mut Ebpf, pin: &Path) -> Program {
    program(ebpf, "xdp_lb").pin(pin).unwrap();
    let handle = Program::open(pin).unwrap();
    std::fs::remove_file(pin).unwrap();
    handle
}

/// The present, as the program sees it.
pub(crate) fn now(ebpf: &mut Ebpf) -> LongTick {
    let run = program(ebpf, "tick").test_run(TestRunOptions {
        data_in: Some(&[0; 64]),
        ..TestRunOptions::new()
    });
    LongTick(run.unwrap().return_value)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    let program = ebpf.object().program_mut(name).unwrap();
    program.try_into().unwrap()
}
