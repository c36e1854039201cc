from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='TokenBucket',
            fields=[
                ('key', models.CharField(max_length=60, primary_key=True, serialize=False)),
                ('full_at', models.BigIntegerField()),
            ],
        ),
    ]
