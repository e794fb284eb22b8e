"""Amazon Rekognition on a laptop: its wire protocol, answered from what the picture shows.

``python -m localcloud.rekognition --port 0`` prints its URL; boto3 finds it through
``AWS_ENDPOINT_URL_REKOGNITION``. It knows faces and cats, reads text where Tesseract is installed,
flags what a file of rules tells it to, and says nothing of anything else.
"""
