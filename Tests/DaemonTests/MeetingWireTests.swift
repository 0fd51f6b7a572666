import Messages
import Paths
import Primitives
import Testing
import Wire

private let peer = PeerID([7] + [UInt8](repeating: 0, count: 31))!
private func coded(_ meeting: Meeting) throws -> Meeting? {
    let framed = Packet(.carriage(.meet(meeting))).framed
    guard case .carriage(.meet(let read)) = try Packet(decoding: framed.header + framed.payload).message else {
        return nil
    }
    return read
}

@Suite struct `A meeting on the wire` {
    @Test func `tells the port of datagrams, where there is one`() throws {
        var meeting = Meeting(peer, number: 9, mapping: .same, endpoints: [Endpoint("198.51.100.7:4000")!])
        #expect(try coded(meeting) == meeting)
        for mapping in PortMapping.allCases {
            meeting.datagrams = DatagramPort(65_535, mapping)
            #expect(try coded(meeting) == meeting)
        }
    }
    @Test func `with a port that is none it is refused`() throws {
        var packet = PBPacket()
        packet.carriage.meet.peer = bytesOf(peer)
        packet.carriage.meet.number = 1
        packet.carriage.meet.datagramPort = 65_535
        #expect(throws: Never.self) { try Packet(packet) }
        packet.carriage.meet.datagramPort = 65_536
        #expect(throws: MalformedBytes.self) { try Packet(packet) }
        // A kind of router that is not known here is one of which nothing is known.
        packet.carriage.meet.datagramPort = 5
        packet.carriage.meet.datagramMapping = 77
        guard case .carriage(.meet(let meeting)) = try Packet(packet).message else {
            Issue.record("no meeting")
            return
        }
        #expect(meeting.datagrams == DatagramPort(5, .unknown))
    }
}
