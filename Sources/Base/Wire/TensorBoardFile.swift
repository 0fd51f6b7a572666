public import Primitives
import SwiftProtobuf

/// Records of TensorBoard's event files: length (u64, little endian), masked CRC-32C of these eight bytes, an `Event`, its masked CRC-32C
/// (TensorFlow, `core/lib/io/record_writer.cc`). A new file begins with ``beginning(at:)``.
public enum TensorBoardFile {
    /// - Parameter time: Unix seconds, as of all records.
    public static func beginning(at time: Double) -> [UInt8] {
        record(time) { $0.fileVersion = "brain.Event:2" }
    }
    /// Figures of one step.
    public static func scalars(_ scalars: [(tag: String, value: Double)], step: Int, at time: Double) -> [UInt8] {
        record(time) { event in
            event.step = Int64(step)
            event.summary.value = scalars.map { scalar in
                var value = TBSummary.Value()
                value.tag = scalar.tag
                value.simpleValue = Float(scalar.value)
                return value
            }
        }
    }
    /// What was said of this step and later ones no longer holds.
    public static func undone(from step: Int, at time: Double) -> [UInt8] {
        record(time) { event in
            event.step = Int64(step)
            event.sessionLog.status = .start
        }
    }

    private static func record(_ time: Double, _ fill: (inout TBEvent) -> Void) -> [UInt8] {
        var event = TBEvent()
        event.wallTime = time
        fill(&event)
        let body: [UInt8]
        do { body = try event.serializedBytes() } catch { preconditionFailure("an event does not serialise: \(error)") }
        let length = littleEndian(UInt64(body.count))
        return length + littleEndian(masked(length)) + body + littleEndian(masked(body))
    }
    /// So that a CRC over bytes that hold CRCs is worth something.
    package static func masked(_ bytes: [UInt8]) -> UInt32 {
        let crc = CRC32C.checksum(bytes)
        return (crc >> 15 | crc << 17) &+ 0xA282_EAD8
    }
    private static func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) }
    }
}
