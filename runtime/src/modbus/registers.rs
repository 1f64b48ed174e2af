//! Registers of a Modbus device: which are read together, and what number they hold.
//!
//! Promises: pure. Registers that follow each other without a gap are read together, at most 125 at once; a gap is never
//! read, because many meters answer it with an exception. Bytes within a register are in network order, as the standard
//! has it; which register comes first is the device's choice.

/// Most registers of one request.
const REGISTERS_MAX: u16 = 125;

/// Which table of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// Function 3.
    Holding,
    /// Function 4.
    Input,
}

/// What a value's registers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterKind {
    /// 16 bits without sign.
    U16,
    /// 16 bits with sign.
    I16,
    /// 32 bits without sign.
    U32,
    /// 32 bits with sign.
    I32,
    /// 64 bits without sign.
    U64,
    /// 64 bits with sign.
    I64,
    /// IEEE 754, 32 bits.
    F32,
    /// IEEE 754, 64 bits.
    F64,
}

impl RegisterKind {
    /// How many registers it takes.
    #[must_use]
    pub fn registers(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
        }
    }

    /// The number in these registers; `None` for what is no number.
    #[must_use]
    pub fn number(self, registers: &[u16], low_word_first: bool) -> Option<f64> {
        let mut bits = 0_u64;
        let mut add = |word: &u16| bits = (bits << 16) | u64::from(*word);
        if low_word_first {
            registers.iter().rev().for_each(&mut add);
        } else {
            registers.iter().for_each(&mut add);
        }
        let number = match self {
            Self::U16 | Self::U32 | Self::U64 => bits as f64,
            Self::I16 => f64::from(bits as u16 as i16),
            Self::I32 => f64::from(bits as u32 as i32),
            Self::I64 => bits as i64 as f64,
            Self::F32 => f64::from(f32::from_bits(bits as u32)),
            Self::F64 => f64::from_bits(bits),
        };
        let whole = registers.len() == usize::from(self.registers());
        (whole && number.is_finite()).then_some(number)
    }
}

/// One value of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusPoint {
    /// The metric's name.
    pub name: Box<str>,
    /// Its table.
    pub function: Function,
    /// Its first register, counted from 0.
    pub address: u16,
    /// What it holds.
    pub kind: RegisterKind,
    /// Whether the register of the lowest bits comes first.
    pub low_word_first: bool,
    /// The number is multiplied by this, e.g. 0.001 for a register in Wh and a metric in kWh.
    pub scale: f64,
}

/// Registers that are read by one request, and the points in them by their place in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) function: Function,
    pub(super) address: u16,
    pub(super) count: u16,
    pub(super) points: Vec<usize>,
}

/// The fewest requests that read the points and no gap.
pub(super) fn requests(points: &[ModbusPoint]) -> Vec<Request> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|index| (points[*index].function, points[*index].address));
    let mut requests: Vec<Request> = Vec::new();
    for index in order {
        let point = &points[index];
        let length = point.kind.registers();
        let end = u32::from(point.address) + u32::from(length);
        if let Some(last) = requests.last_mut()
            && last.function == point.function
            && u32::from(point.address) <= u32::from(last.address) + u32::from(last.count)
            && end - u32::from(last.address) <= u32::from(REGISTERS_MAX)
        {
            let count = u16::try_from(end - u32::from(last.address)).unwrap_or(REGISTERS_MAX);
            last.count = last.count.max(count);
            last.points.push(index);
        } else {
            requests.push(Request {
                function: point.function,
                address: point.address,
                count: length,
                points: vec![index],
            });
        }
    }
    requests
}

/// The numbers of a request's points, by their place in the list.
pub(super) fn numbers<'a>(
    request: &'a Request,
    points: &'a [ModbusPoint],
    registers: &'a [u16],
) -> impl Iterator<Item = (usize, f64)> + 'a {
    request.points.iter().filter_map(|index| {
        let point = &points[*index];
        let from = usize::from(point.address - request.address);
        let own = registers.get(from..from + usize::from(point.kind.registers()))?;
        let number = point.kind.number(own, point.low_word_first)?;
        Some((*index, number * point.scale))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(function: Function, address: u16, kind: RegisterKind) -> ModbusPoint {
        ModbusPoint {
            name: format!("m{address}").into(),
            function,
            address,
            kind,
            low_word_first: false,
            scale: 1.0,
        }
    }

    #[test]
    fn numbers_are_read_in_either_order_of_words() {
        use RegisterKind::{F32, F64, I16, I32, I64, U16, U32, U64};
        for (kind, registers, number) in [
            (U16, &[0xffff][..], Some(65_535.0)),
            (I16, &[0xffff], Some(-1.0)),
            (U32, &[0x0001, 0x0000], Some(65_536.0)),
            (I32, &[0xffff, 0xfffe], Some(-2.0)),
            (U64, &[0, 0, 1, 0], Some(65_536.0)),
            (I64, &[0xffff, 0xffff, 0xffff, 0xffff], Some(-1.0)),
            // 230.2 V as an SDM630 sends it.
            (F32, &[0x4366, 0x3333], Some(f64::from(230.2_f32))),
            (F64, &[0x4059, 0, 0, 0], Some(100.0)),
            (F32, &[0x7fc0, 0], None),
            (F32, &[0x4366], None),
        ] {
            assert_eq!(kind.number(registers, false), number, "{kind:?} {registers:x?}");
            let turned: Vec<u16> = registers.iter().rev().copied().collect();
            assert_eq!(kind.number(&turned, true), number, "{kind:?} {turned:x?}");
        }
    }

    #[test]
    fn what_follows_without_a_gap_is_read_together() {
        use Function::{Holding, Input};
        use RegisterKind::{F32, I64, U16};
        let points = [
            point(Input, 4, F32),
            point(Input, 0, F32),
            point(Input, 2, F32),
            point(Input, 0x34, F32),
            point(Holding, 4, I64),
            point(Holding, 8, U16),
            // The same registers twice.
            point(Holding, 4, U16),
        ];
        let found: Vec<_> = requests(&points)
            .into_iter()
            .map(|request| (request.function, request.address, request.count, request.points))
            .collect();
        assert_eq!(
            found,
            [
                (Holding, 4, 5, vec![4, 6, 5]),
                (Input, 0, 6, vec![1, 2, 0]),
                (Input, 0x34, 2, vec![3])
            ]
        );
        let many: Vec<_> = (0..100).map(|number| point(Input, number * 2, F32)).collect();
        let counts: Vec<_> = requests(&many).iter().map(|request| request.count).collect();
        assert_eq!(counts, [124, 76]);
        assert_eq!(requests(&[point(Input, 0xffff, U16)])[0].count, 1);
    }
}
