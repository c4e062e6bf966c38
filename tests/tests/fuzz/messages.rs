//! Every message of the protocol.

use imprint_proto::v1;
use prost::Message;

/// Decodes as every message; what can be decoded comes back from its encoding.
pub(crate) fn decode_as_everything(bytes: &[u8]) {
    macro_rules! decode {
        ($($message:ident)*) => { $(
            if let Ok(message) = v1::$message::decode(bytes) {
                let again = message.encode_to_vec();
                // Compared encoded: a number that is no number is not equal to itself.
                assert_eq!(v1::$message::decode(&again[..]).unwrap().encode_to_vec(), again);
            }
        )* };
    }
    decode! {
        DescribeRequest DescribeResponse PushRequest OpenUpload Ask Data Object Commit PushResponse Opened Answer
        Missing VersionKey FetchTreeRequest FetchTreeResponse TreePiece FetchChunksRequest FetchChunksResponse
        FetchedChunk GetVersionRequest Version ListVersionsRequest ListImagesRequest Image Tag SetTagRequest
        RemoveTagRequest RemoveTagResponse RemoveVersionRequest RemoveVersionResponse ForgetVersionsRequest
        KeepRules VersionFate ListRemovedRequest RemovedVersion UndeleteVersionRequest PinVersionRequest
        PinVersionResponse UnpinVersionRequest UnpinVersionResponse GetStatsRequest Stats CollectRequest
        CollectResponse CollectProgress CollectReport
    }
}
