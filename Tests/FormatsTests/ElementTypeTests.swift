import Checkpoints
import Primitives
import Testing

@Suite struct ElementTypeTests {
    static func written(_ type: ElementType, _ value: Float) -> (bits: UInt16, bad: Int?) {
        var raw: [UInt8] = [0, 0]
        let bad = [value].withUnsafeBufferPointer { values in
            raw.withUnsafeMutableBytes { type.write(values, into: $0) }
        }
        return (UInt16(raw[0]) | UInt16(raw[1]) << 8, bad)
    }
    static func read(_ type: ElementType, _ bits: UInt16) -> Float {
        var value: [Float] = [0]
        _ = [UInt8(bits & 255), UInt8(bits >> 8)].withUnsafeBytes { raw in
            value.withUnsafeMutableBufferPointer { type.read(raw, into: $0) }
        }
        return value[0]
    }

    @Test(arguments: [ElementType.fp16, .bf16])
    func `every number of sixteen bits comes back`(type: ElementType) {
        for bits in UInt16.min...UInt16.max {
            let value = Self.read(type, bits)
            guard value.isFinite else { continue }
            #expect(Self.written(type, value).bits == bits)
        }
    }

    @Test(arguments: [ElementType.fp16, .bf16])
    func `others go to the nearest, ties to even`(type: ElementType) {
        var generator = SeededGenerator(seed: 3)
        for round in 0..<20_000 {
            let bits = UInt16(generator.below(type == .fp16 ? 0x7BFF : 0x7F7F))
            let low = Self.read(type, bits), high = Self.read(type, bits + 1)
            let share = round % 5 == 0 ? 0.5 : generator.uniform()
            let value = Float(Double(low) + (Double(high) - Double(low)) * share)
            let found = Self.read(type, Self.written(type, value).bits)
            let toLow = Double(value) - Double(low), toHigh = Double(high) - Double(value)
            if toLow == toHigh {
                #expect(found == (bits % 2 == 0 ? low : high))
            } else {
                #expect(found == (toLow < toHigh ? low : high))
            }
            #expect(Self.read(type, Self.written(type, -value).bits) == -found)
        }
    }

    @Test func `what does not fit is told`() {
        #expect(Self.written(.fp16, 65_519.9).bad == nil)
        #expect(Self.written(.fp16, 65_520).bad == 0)
        #expect(Self.written(.bf16, .greatestFiniteMagnitude).bad == 0)
        #expect(Self.written(.bf16, .nan).bad == 0)
        #expect(Self.written(.fp16, .infinity).bad == 0)
    }
}
