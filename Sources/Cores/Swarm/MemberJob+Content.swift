import Primitives
import Telemetry
import Wire

/// The job's text: fetched in verified chunks, and served on to other members.
extension MemberJob {
    mutating func receiveContent(_ packet: PBPacket, payload: [UInt8], from peer: PeerID) {
        switch packet.body {
        case .contentIndex(let message)?:
            guard Array(message.content) == content.bytes, fetch.index == nil else { return }
            do throws(MalformedBytes) {
                let index = try ContentIndex(encoded: Array(message.index), id: content)
                guard index.bytes == contentBytes else { throw MalformedBytes("content of \(index.bytes) bytes") }
                fetch.receive(index: index, holders: message.holders.compactMap { PeerID($0) }.filter { $0 != me })
            } catch {
                event("content_refused", peer: peer.short, ["why": .text(error.description)])
            }
        case .chunk(let message)?:
            guard Array(message.content) == content.bytes else { return }
            let number = Int(message.chunk)
            if message.missing {
                fetch.missing(number, at: peer)
            } else if fetch.receive(chunk: number, payload, from: peer) {
                effects.push(.storeChunk(content: content, number: number, payload))
            } else {
                event("chunk_refused", peer: state.name(of: peer), ["chunk": .integer(number)])
            }
        case .chunkRequest(let message)?:
            guard Array(message.content) == content.bytes else { return }
            var answer = PBPacket()
            answer.chunk.content = message.content
            answer.chunk.chunk = message.chunk
            let bytes = fetch.chunk(Int(message.chunk))
            answer.chunk.missing = bytes == nil
            send(answer, payload: bytes ?? [], on: .bulk, to: peer)
        default: break
        }
        requestChunks()
    }

    mutating func requestChunks() {
        if fetch.isComplete {
            if corpus == nil {
                corpus = fetch.content
                effects.push(.corpus(corpus!))
                event("text_complete", ["bytes": .integer(contentBytes)])
                reconcile()
            }
            return
        }
        for request in fetch.requests(at: now) {
            var packet = PBPacket()
            packet.chunkRequest.content = bytesOf(content)
            packet.chunkRequest.chunk = UInt32(request.chunk)
            send(packet, on: .control, to: request.from)
        }
    }
}
