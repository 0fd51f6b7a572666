public import Primitives
public import Telemetry
public import Training
public import Wire

/// What a member or a coordinator asks of its driver. The same list for both, so that one loop performs them.
public enum SwarmEffect: Sendable {
    case send(PBPacket, payload: [UInt8] = [], on: Lane, to: PeerID)
    /// Keep a connection to a peer; harmless when there is one.
    case connect(PeerID, Endpoint)
    /// What this host's line carries up, as measured: activations go first on it.
    case uplink(BitRate)
    /// For the engine of this process; results come back in order.
    case compute(ComputeJob)
    /// The job's text is here and verified: the engine's data.
    case corpus([UInt8])
    /// Write to the job's folder: the log survives a restart.
    case storeLogEntry(job: Digest256, PBEnvelope)
    case storeChunk(content: Digest256, number: Int, [UInt8])
    /// The job is over here: its chunks go.
    case eraseJob(job: Digest256, content: Digest256)
    case event(Event)
    /// Coordinator only: search for a plan, slowly, and hand it back.
    case plan(PlanQuestion)
    /// Coordinator only: write a checkpoint of these units as of a round.
    case storeCheckpoint(round: Int, [UnitState])
    /// Coordinator only: the job ended, with the final parameters if it succeeded.
    case ended(JobEnd)
}

public enum JobEnd: Sendable {
    case finished([UnitState])
    /// What went wrong and what to try.
    case failed(String)
}
